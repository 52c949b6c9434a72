"""Where a secret comes from, and the secret itself once it has been read.

In a configuration a secret is `{ env = "NAME" }`, `{ file = "PATH" }` or `{ credential = "NAME" }`
(a file in systemd's credentials directory), never its text.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from daemon.errors import ConfigError


class Secret(BaseModel):
    """A reference to a secret; `reveal` gives its text after `read`. Its repr never shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    env: str | None = None
    file: Path | None = None
    credential: str | None = None
    _text: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _no_literals(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(  # noqa: TRY004 - pydantic reports ValueError by table and key
                'a secret is never in the file: write { env = "NAME" }, { file = "PATH" } '
                'or { credential = "NAME" }'
            )
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if sum(source is not None for source in (self.env, self.file, self.credential)) != 1:
            raise ValueError("give exactly one of env, file, credential")
        return self

    def read(self, environ: MutableMapping[str, str]) -> None:
        """Read it once. Raises ConfigError that says what is missing."""
        if self.env is not None:
            text = environ.get(self.env, "")
            missing = f"the environment has no {self.env}"
        else:
            path = self.file or Path(
                environ.get("CREDENTIALS_DIRECTORY", "/"), str(self.credential)
            )
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read the secret in {path}: {error}") from error
            missing = f"{path} is empty"
        if not text.strip():
            raise ConfigError(missing)
        self._text = text.strip()

    def reveal(self) -> str:
        """Its text. Raises ConfigError when it has not been read."""
        if self._text is None:
            raise ConfigError("a secret was used before it was read")
        return self._text
