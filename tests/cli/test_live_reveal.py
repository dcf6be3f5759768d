"""Denoising as it is shown on a terminal."""

import io

import pytest
from rich.console import Console

from ridgeway.cli import live_reveal
from ridgeway.cli.live_reveal import MASK, Canvas, show_live
from ridgeway.core.outputs import Delta, StreamTrace
from ridgeway.models.tokenizer import Tokenizer
from ridgeway.training.byte_tokenizer import END_ID, byte_tokenizer

PROMPT = list(b"the")


@pytest.fixture
def canvas():
    return Canvas(Tokenizer(byte_tokenizer()), PROMPT)


def trace(revealed, tokens, start=3, **more):
    return StreamTrace(
        rows=4, kept=0, revealed=tuple(revealed), start=start, canvas=tuple(tokens), masked=(3, 4, 5), **more
    )


def test_what_is_not_known_yet_is_a_mask(canvas):
    canvas.update(trace([(4, ord("d"))], [None, ord("d"), None]))
    assert canvas.text().plain == f"{MASK}d{MASK}"


def test_what_was_just_revealed_stands_out(canvas):
    canvas.update(trace([(4, ord("d"))], [None, ord("d"), None]))
    canvas.update(trace([(3, ord(" "))], [ord(" "), ord("d"), None]))
    bright = [canvas.text().plain[span.start : span.end] for span in canvas.text().spans if "green" in str(span.style)]
    assert bright == [" "]


def test_a_finished_block_stays_when_the_next_one_begins(canvas):
    canvas.update(trace([], b" do"))
    canvas.update(trace([], [ord("g"), None], start=6))
    assert canvas.text().plain == f" dog{MASK}"


def test_a_token_that_is_decided_once_more_is_a_mask_again(canvas):
    canvas.update(trace([], b" do"))
    canvas.update(trace([], [ord(" "), None, ord("o")], remasked=(4,)))
    assert canvas.text().plain == f" {MASK}o"


def test_end_tokens_are_no_text(canvas):
    canvas.update(trace([], [ord("."), END_ID, END_ID]))
    assert canvas.text().plain == "."


def test_deltas_pass_through_and_the_terminal_is_left_clean(canvas, monkeypatch):
    monkeypatch.setattr(live_reveal, "_LEAST_SECONDS", 0)
    deltas = [Delta("r", 0, "", (), trace=trace([], [None, ord("d")])), Delta("r", 0, " d", (32, 100), "stop")]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=40)
    assert list(show_live(deltas, canvas, console)) == deltas
    assert f"{MASK}" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")
