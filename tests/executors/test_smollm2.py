"""The real model against transformers, which reads the same GGUF file and dequantizes it to float32."""

import numpy as np
import pytest

from ridgeway.core.sampling_params import SamplingParams
from ridgeway.testing import toy_llm

PROMPTS = [
    "The memory wall is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The capital of France is Paris. The capital of Italy is",
    "To make pancakes you need flour, eggs and",
    "Water boils at 100 degrees Celsius because",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "Dear Sir or Madam,\n\nI am writing to",
    "1, 2, 4, 8, 16,",
    "The three laws of thermodynamics say that",
    "Il était une fois",
    "Q: What is the largest planet?\nA:",
    "import numpy as np\n\nx = np.",
    "The patient was admitted with",
    "In 1969, Apollo 11",
    '"I don\'t believe it," she said,',
    "Photosynthesis is the process by which",
    "# Installation\n\nTo install the package, run",
    "The quick brown fox",
    "Roses are red,\nviolets are blue,\n",
]
NEW_TOKENS = 64


@pytest.fixture(scope="module")
def llm():
    return toy_llm("smollm2-135m", slots=8192)


@pytest.fixture(scope="module")
def oracle(llm):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    folder, _, name = llm.model.source.rpartition("/")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()


def test_greedy_transcripts_of_twenty_prompts_are_those_of_transformers(llm, oracle):
    """Every token is the argmax of transformers' logits on the transcript before it, so that its greedy decoding,
    which is 20 times slower to run, gives the same transcript."""
    import torch

    prompts = [llm.tokenizer.encode(prompt) for prompt in PROMPTS]
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
    outputs = llm.generate(prompts, params)
    for prompt, output in zip(prompts, outputs, strict=True):
        tokens = output.outputs[0].token_ids
        assert len(tokens) == NEW_TOKENS
        with torch.inference_mode():
            logits = oracle(torch.tensor([prompt + tokens])).logits[0].numpy()
        assert logits[len(prompt) - 1 : -1].argmax(axis=-1).tolist() == tokens


def test_logits_are_those_of_transformers(llm, oracle):
    import torch

    ids = llm.tokenizer.encode(PROMPTS[1] + PROMPTS[6] + PROMPTS[12])
    with torch.inference_mode():
        expected = oracle(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(llm.logits(ids, cached=5) - expected[5:]).max() < 2e-3  # 30 layers in float32, logits up to 30


def test_a_sampled_answer_is_the_same_alone_and_in_a_batch(llm):
    params = SamplingParams(temperature=0.8, top_p=0.95, seed=11, max_tokens=12)
    alone = llm.generate(PROMPTS[1], params)[0].outputs[0].text
    together = llm.generate(PROMPTS[:4], params)[1].outputs[0].text
    assert alone == together
