"""What becomes of each field of a request: it is understood, ignored, or refused by name.

A field that this engine does not support is not passed over in silence, unless what it says changes
nothing: clients send such as ``"presence_penalty": 0`` without being asked to. And null, for a
field that may be left out, says the same as to leave it out, whatever the field.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Tag, model_validator


class RequestModel(BaseModel):
    """The base of all that clients send: values have their type, and fields are known."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: Any) -> Any:
        """Leave out what is null, so that unknown fields may be, too."""
        if not isinstance(body, dict):
            return body
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {
            name: value for name, value in body.items() if value is not None or name in required
        }


class NothingNew:
    """Accepts a field that is not supported, as long as what it says changes nothing.

    Args:
        *values: What it may say.

    >>> NothingNew(0)(0.0)
    0.0
    >>> NothingNew(0)(0.5)
    Traceback (most recent call last):
        ...
    ValueError: this engine does not support it; leave it out
    """

    def __init__(self, *values: object) -> None:
        self.values = values

    def __call__(self, value: object) -> object:
        """Return the value if it changes nothing."""
        if value is not None and value not in self.values:
            raise ValueError("this engine does not support it; leave it out")
        return value


class Passed:
    """Marks a field that changes no answer, whatever it says."""


def unicode_text(text: str) -> str:
    """Refuse half a surrogate pair, which JSON can say and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it is not Unicode: half of a surrogate pair stands alone") from error
    return text


def _one_or_list(value: object) -> str:
    """Say of which kind a value is meant to be, so that only this kind's errors are told."""
    return LIST if isinstance(value, list) else ONE


ONE, LIST = "<one>", "<list>"
"""What the path of an error has in front of where it is in a field that is one thing or several."""

# What a field may be. The last six are of fields that this engine does not support.
ByKind = Discriminator(_one_or_list)
Text = Annotated[str, AfterValidator(unicode_text)]
OneText = Annotated[Text, Tag(ONE)]
Texts = Annotated[OneText | Annotated[list[Text], Tag(LIST)], ByKind]
Ignored = Annotated[Any, Passed()]
Zero = Annotated[Any, AfterValidator(NothingNew(0))]
One = Annotated[Any, AfterValidator(NothingNew(1))]
On = Annotated[Any, AfterValidator(NothingNew(True))]
Off = Annotated[Any, AfterValidator(NothingNew(False))]
Empty = Annotated[Any, AfterValidator(NothingNew("", [], {}))]
