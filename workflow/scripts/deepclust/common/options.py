"""The base of every options model.

An option is declared once, as an annotated field of a pydantic model beside the code that uses it, with its description
as a string below the field. Validation, defaults, command-line flags, the JSON schema and the docs table come from it.
The models import no torch, but the files they stand in may: planning reads the generated schema instead.
"""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of all options: unknown keys are errors, descriptions are the strings under the fields."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)
