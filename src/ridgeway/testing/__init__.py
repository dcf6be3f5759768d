"""For everyone who writes a decoding method: toy models, and the test of losslessness.

from ridgeway.testing import check_lossless

def test_my_method_is_lossless():
    check_lossless(Mine)
"""

from ridgeway.testing.lossless import check_lossless
from ridgeway.testing.toy import bf16, toy_config, toy_draft_head, toy_llm, toy_model

__all__ = ["bf16", "check_lossless", "toy_config", "toy_draft_head", "toy_llm", "toy_model"]
