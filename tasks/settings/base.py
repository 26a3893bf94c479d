"""The base of all settings, and what of them enters a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from storage.addresses import concealed


class _IsPath:
    """Marks a setting that names a file or a folder."""


PathName = Annotated[str, _IsPath()]  # a file or a folder of this machine, a URL (scheme:// or scheme:NAME), or nothing


class Settings(BaseModel):
    """The base of all settings: unknown names are errors, values cannot change once set."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    without_effect: ClassVar[frozenset[str]] = frozenset({"error_budget"})  # fields that change no result

    def files(self) -> tuple[str, ...]:
        """Paths of the files that these settings name: their contents matter as the settings themselves do."""
        return ()

    def chosen(self) -> dict[str, Any]:
        """The settings that do not stand at their defaults, as JSON would hold them."""
        return self._differing(Settings.chosen, frozenset())

    def identity(self) -> dict[str, Any]:
        """What enters a key: the chosen settings that change results.

        So a setting that is new leaves the keys of what was made before it as they are. A file whose contents enter
        the key as well counts by its name alone: it may lie anywhere.
        """
        chosen = self._differing(lambda settings: settings.identity(), self.without_effect)
        return {name: PurePath(value).name if self._is_read(name, value) else value for name, value in chosen.items()}

    def absolute(self) -> Self:
        """The same settings with whole paths: they mean the same wherever they are read."""
        return self.model_copy(
            update={
                name: _absolute(
                    value, any(isinstance(mark, _IsPath) for mark in field.metadata) or self._is_read(name, value)
                )
                for name, field in type(self).model_fields.items()
                for value in [getattr(self, name)]
            }
        )

    def mapped(self, change: Callable[[str], str]) -> Self:
        """The same settings with every text changed, as by :func:`storage.addresses.concealed`."""
        return self.model_copy(update={name: _mapped(getattr(self, name), change) for name in type(self).model_fields})

    def _is_read(self, name: str, value: Any) -> bool:
        """Whether the setting ``name`` is one of the :meth:`files`, or the folder that they lie in."""
        if name == "kind" or not isinstance(value, str) or not value:
            return False
        return any(PurePath(value) in (file, *file.parents) for file in map(PurePath, self.files()))

    def _differing(self, of_nested: Callable[[Settings], Any], left_out: frozenset[str]) -> dict[str, Any]:
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in fields if name not in left_out}
        return {
            name: _plain(value, of_nested)
            for name, value in values.items()
            if name == "kind"
            or fields[name].is_required()
            or fields[name].default_factory is not None
            or value != fields[name].default
        }


def _plain(value: Any, of_nested: Callable[[Settings], Any]) -> Any:
    if isinstance(value, Settings):
        return of_nested(value)
    if isinstance(value, tuple):
        return [_plain(item, of_nested) for item in value]
    return concealed(value) if isinstance(value, str) else value


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Settings):
        return value.mapped(change)
    if isinstance(value, tuple):
        return tuple(_mapped(item, change) for item in value)
    return change(value) if isinstance(value, str) else value


def _absolute(value: Any, is_path: bool) -> Any:
    if isinstance(value, Settings):
        return value.absolute()
    if isinstance(value, tuple):
        return tuple(_absolute(item, is_path) for item in value)
    return str(Path(value).absolute()) if is_path and value and ":" not in value else value


def defaults(model: type[Settings]) -> dict[str, Any]:
    """The defaults of the settings that have one, as JSON would hold them."""
    return {
        name: value.model_dump(mode="json") if isinstance(value, Settings) else value
        for name, field in model.model_fields.items()
        if not field.is_required() and field.default_factory is None
        for value in [field.default]
    }
