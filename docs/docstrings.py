"""What mkdocstrings has to know about our docstrings."""

import griffe


class Doctests(griffe.Extension):
    """Show what stands under `Example:` as code; griffe looks for `Examples:` and takes the singular for words."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
