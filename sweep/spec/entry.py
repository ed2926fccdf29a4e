"""The base of every mapping in the sweep file."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

import methods
from sweep.spec import describe


class Entry(BaseModel):
    """A mapping of the file. Keys that are not listed are faults; values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    shorthand: ClassVar[str] = ""
    """The key that a plain text in place of the mapping stands for."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {cls.shorthand: value} if cls.shorthand and isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        """For editors: what keys mean, text that may stand for the mapping, methods' parameters."""
        written = handler(schema)
        body = dict(handler.resolve_ref_schema(written))
        text = cls._text_schema(body["properties"])
        docs = describe.field_docs(cls)
        body["properties"] = {
            key: {**value, "description": docs[key]} if key in docs else value
            for key, value in body["properties"].items()
        }
        if body.get("additionalProperties") is True:
            body["properties"] |= cls.own_schema()
            body["additionalProperties"] = False
        return {"anyOf": [text, body]} if text else body

    @classmethod
    def _text_schema(cls, properties: dict[str, Any]) -> dict[str, Any]:
        """Schema of the text that may stand for this mapping; empty if none may."""
        value = properties.get(cls.shorthand, {})
        return value.get("anyOf", [value])[0]

    @classmethod
    def own_keys(cls) -> list[str]:
        """Keys beside the listed ones that a mapping with parameters may have."""
        return [p for name in methods.names() for p in methods.parameter_names(name)]

    @classmethod
    def own_schema(cls) -> dict[str, Any]:
        """What each of the `own_keys` means, as a JSON schema."""
        return describe.method_parameters()

    def over(self, base: Entry) -> Self:
        """This entry with what it leaves out taken from `base`, nested entries alike."""
        values: dict[str, Any] = {}
        for key in base.model_fields_set:
            theirs, ours = getattr(base, key), getattr(self, key)
            if key not in self.model_fields_set:
                values[key] = theirs
            elif isinstance(ours, Entry):
                values[key] = ours.over(theirs)
        return self.model_copy(update=values)
