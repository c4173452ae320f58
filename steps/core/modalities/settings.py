"""Settings of every modality, under its name; which one is used follows from the data.

A modality of one's own is a package with the modules `settings` (a class `Settings`) and `modality` (see
`steps.core.modalities.contract`). Its section is called by the package's dotted name.
"""

from importlib import import_module
from typing import Any

from pydantic import ConfigDict, ValidationError, model_validator

from steps.core.modalities.image.settings import Settings as ImageSettings
from steps.core.modalities.text.settings import Settings as TextSettings
from steps.core.system.config import Config


class ModalitySettings(Config):
    """The section `modality` of params.yaml."""

    model_config = ConfigDict(extra="allow")

    image: ImageSettings
    text: TextSettings

    @model_validator(mode="after")
    def read_extra(self) -> "ModalitySettings":
        """Read the sections of modalities that are not built in, each by its own class."""
        extra = self.__pydantic_extra__ or {}
        for package, section in extra.items():
            extra[package] = section if isinstance(section, Config) else read_section(package, section)
        return self

    def of(self, modality: str) -> Any:
        """Return the settings of one modality.

        Raises:
            KeyError: There is no section of that name.
        """
        found = {**dict(self), **(self.__pydantic_extra__ or {})}
        return found[modality]

    @property
    def packages(self) -> list[str]:
        """The modalities that are not built in."""
        return sorted(self.__pydantic_extra__ or {})


def read_section(package: str, section: Any) -> Config:
    """Read the section of a modality that is a package of its own.

    Raises:
        ValueError: There is no such package, or the section does not fit its settings.
    """
    if "." not in package:
        raise ValueError(f"image, text, or the dotted name of a package with a modality; found {package!r}")
    try:
        kind: type[Config] = import_module(f"{package}.settings").Settings
        return kind.model_validate(section)
    except ModuleNotFoundError as error:
        raise ValueError(f"{package} to be a package with a module `settings`: {error}") from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, row['loc']))}: {row['msg']}" for row in error.errors())
        raise ValueError(f"{package} to be right: {'; '.join(problems)}") from None
