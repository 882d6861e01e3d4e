"""Earlier releases in tests/releases: each is a `git archive` of `sql functions layers/sms_retry/python`."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tarfile
from pathlib import Path

from local.aws.container import ROOT

RELEASES = Path(__file__).parent / "releases"


def unpacked(version: str, folder: Path) -> Path:
    """The files of a release in `folder`: `sql`, `functions` and `layers/sms_retry/python`."""
    with tarfile.open(RELEASES / f"{version}.tar.gz") as archive:
        # Python before 3.11.4 has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder / version)
    return folder / version


def files_of(version: str, folder: Path) -> Path:
    """A release as `load` reads it: with a template, and the SQL in the layer."""
    root = unpacked(version, folder)
    shutil.copy(ROOT / "template.yaml", root)
    (root / "layers/sms_retry/sql").symlink_to(root / "sql")
    return root


def sql(version: str, folder: Path) -> Path:
    """The SQL of a release, for `migrate`."""
    return unpacked(version, folder) / "sql"


def migrate(version: str, url: str, folder: Path) -> None:
    """Migrate as a release does, by its own migrator."""
    files = unpacked(version, folder)
    place = files / "layers/sms_retry/python/sms_retry/migrate.py"
    spec = importlib.util.spec_from_file_location("released_migrate", place)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.migrate(url, files / "sql")
