"""What docs/models.md says of diffusion checkpoints is what loading one finds."""

import json
import re
from pathlib import Path

import pytest

from ridgeway.models.architectures import architecture_of_hf
from ridgeway.models.diffusion_section import with_diffusion_section
from ridgeway.models.fields import Fields

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs/models.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.splitlines()
    if line.startswith("|") and "`" in line and "---" not in line and "runs on" not in line
]
GOLDEN = {
    fields["architectures"][0]: fields
    for fields in (json.loads(path.read_text()) for path in (ROOT / "tests/golden").glob("*/config.json"))
}
LARGE = 152064  # a vocabulary that has every family's mask


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip("`"))
def test_the_table_of_diffusion_checkpoints_is_what_their_configurations_are_read_as(row):
    _, hf_class, attention, predicts, mask, _ = row
    values = GOLDEN[hf_class.strip("`")] | {"vocab_size": LARGE, "embedding_size": LARGE, "mask_token_id": None}
    fields = Fields("config.json", values)
    traits = architecture_of_hf(fields).config_from_hf(fields).traits
    assert f"`{traits.attention}`" == attention.split(" of ")[0]
    assert f"`{traits.logit_shift.name}`" == predicts
    assert traits.mask_id == (LARGE - 1 if mask == "the last id" else int(mask))
    size = re.search(r"of (\d+)", attention)
    assert size is None or traits.block_size == int(size.group(1))


def test_every_diffusion_architecture_is_in_the_table():
    diffusion = set()
    for hf_class, values in GOLDEN.items():
        traits = architecture_of_hf(Fields("config.json", values)).config_from_hf(Fields("config.json", values)).traits
        if not traits.autoregressive:
            diffusion.add(f"`{hf_class}`")
    assert diffusion == {row[1] for row in ROWS}


def test_the_section_that_says_how_a_decoder_reads_is_read():
    section = json.loads("{" + re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL).group(1) + "}")
    fields = Fields("config.json", GOLDEN["LlamaForCausalLM"] | {"vocab_size": LARGE} | section)
    traits = with_diffusion_section(architecture_of_hf(fields).config_from_hf(fields), fields).traits
    assert (traits.attention, traits.block_size, traits.logit_shift.name) == ("block", 4, "IN_PLACE")
    assert traits.mask_id == section["diffusion"]["mask_token_id"]
