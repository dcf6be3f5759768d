"""The engine on the CPU executor: lossless in any batch, with preemption, with long prompts."""

from ridgeway.testing import check_lossless, toy_llm


def test_plain_decoding_is_the_same_alone_in_batches_and_after_preemption():
    llm = toy_llm(executor="cpu", threads=2)
    assert llm.executor.name == "cpu"
    check_lossless("ar", llm)
