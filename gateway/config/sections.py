"""The sections of the configuration and their settings, by the names that these have in a file. Pure."""

from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.settings import SecretDigest, SecretValue


def fields_of(section: Any) -> dict[str, FieldInfo]:
    """The settings of a section; none of what is no section."""
    fields = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
    return {field.alias or name: field for name, field in fields.items()}


def section_of(annotation: Any) -> Any:
    """The section that an annotation names, also within a list, a mapping or a choice; None where it names none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := section_of(arg))), None)


def is_plain_section(annotation: Any) -> bool:
    """Whether it is one section itself: no list or mapping of some, and no reference to a secret."""
    found = section_of(annotation)
    return (
        found is not None and found not in {SecretDigest, SecretValue} and get_origin(annotation) not in {list, dict}
    )
