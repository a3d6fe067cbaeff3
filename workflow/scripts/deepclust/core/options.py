"""The base of every options model.

An option is declared once, as an annotated field of a pydantic model beside the code that uses it, with its description
as a string below the field. Validation, defaults, command-line flags, the JSON schema and the docs table come from it.
The models import no torch, but the files they stand in may: planning reads the generated schema instead.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Options(BaseModel):
    """Base of all options: unknown keys are errors, descriptions are the strings under the fields.

    A nested section that is given in part, as a dict, keeps the defaults of the model that it stands in.
    """

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_nested_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: _over(defaults.get(name), value) for name, value in values.items()}


def _over(default: Any, value: Any) -> Any:
    """Return `value`; nested options that it leaves out are taken from the default."""
    if not isinstance(default, BaseModel) or not isinstance(value, dict):
        return value
    kept = {name: getattr(default, name) for name in default.model_fields_set}
    return kept | {name: _over(kept.get(name), item) for name, item in value.items()}
