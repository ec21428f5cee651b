"""Print what a file says without trusting it."""

_LONGEST = 200  # Characters: a name may be as long as the header.


def shown(text: str) -> str:
    """Return `text` as one short printable line: a name could hold what moves a terminal's cursor."""
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return text if text.isprintable() else ascii(text)
