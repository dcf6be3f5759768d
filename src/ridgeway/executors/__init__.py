"""One weight stream on one device. An executor knows no decoding method."""
