"""Places in a document that a benchmark fills in: between `<!-- NAME -->` and `<!-- end of NAME -->`."""

from pathlib import Path


def fill(path: Path, name: str, text: str) -> None:
    """Put `text` into the place of that name, in place of what is there."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no place {begin.strip()} ... {end}")
    path.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
