"""Stop strings: found across tokens, cut from the text, and nothing of a possible one is shown too early."""

from ridgeway.engine.stopping import AnswerText


class Pieces:
    """A detokenizer whose tokens are given pieces of text; what it holds back comes at the end."""

    def __init__(self, pieces, rest=""):
        self.pieces, self.rest = pieces, rest

    def push(self, token):
        return self.pieces[token]

    def flush(self):
        return self.rest


def shown(pieces, stops, **options):
    text, seen = AnswerText(Pieces(pieces, options.pop("rest", "")), stops, **options), []
    for token in range(len(pieces)):
        stop = text.push(token)
        seen.append(text.take(final=stop is not None))
        if stop is not None:
            break
    text.finish()
    seen.append(text.take(final=True))
    return seen, text.text


def test_a_stop_string_across_tokens_is_cut_and_never_shown():
    assert shown(["Hello E", "N", "D more"], ("END",)) == (["Hello ", "", "", ""], "Hello ")


def test_what_only_looked_like_a_stop_string_is_shown_once_that_is_settled():
    assert shown(["a E", "N", "x"], ("END",)) == (["a ", "", "ENx", ""], "a ENx")


def test_the_first_of_several_stop_strings_counts():
    assert shown(["one two three"], ("three", "two"))[1] == "one "


def test_the_stop_string_is_kept_if_asked():
    assert shown(["a END b"], ("END",), keep_stop=True)[1] == "a END"


def test_nothing_follows_a_stop_string_not_even_what_was_held_back():
    assert shown(["x y"], (" ",), rest="\ufffd")[1] == "x"
