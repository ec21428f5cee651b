"""Refuse text that a file cannot hold."""


def check_text(text: str, what: str) -> None:
    """Raise an error unless UTF-8 can write `text`.

    Args:
      what: What the error calls the text, for example `save(metadata=...)`.

    Raises:
      ValueError: There is half of a surrogate pair in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} must be text that UTF-8 can write; got {text!a:.40}. Take the lone surrogate out of it."
        ) from error
