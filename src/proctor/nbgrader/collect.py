"""Collecting from the exchange, where every learner may write what they like.

nbgrader copies a submission as it stands there: a symbolic link is followed with the teacher's rights, a FIFO is waited
for, and one folder that is odd ends the collection of the whole class. Here only plain files and folders are taken,
each opened without following links, and what is left out is logged with the learner's name.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

from nbgrader.exchange.default import ExchangeCollect
from traitlets import Integer

from proctor.nbgrader.folders import Copy, account, fit, kind, told_of

Record = dict[str, Any]


class Collect(ExchangeCollect):
    """nbgrader's ``collect``, which takes plain files and folders only and goes on after an odd submission."""

    max_entries = Integer(1000, help="How many files and folders a submission may have.").tag(config=True)
    max_depth = Integer(16, help="How deep folders may lie in one another.").tag(config=True)

    def init_src(self) -> None:
        """Choose one submission of each learner, among those that are submissions at all."""
        super().init_src()
        self.src_records = [record for record in self.src_records if record["username"]]

    def _path_to_record(self, path: str) -> Record:
        """What the name of a folder says. Nobody's, where it says nothing: anybody may put anything there."""
        nobody = {"username": "", "filename": os.path.basename(path), "timestamp": datetime.min}  # noqa: PTH119
        try:
            about = os.lstat(path)
            record: Record = super()._path_to_record(path)
        except Exception as error:
            self.log.warning("%r in the exchange is left out: %s", nobody["filename"], error)
            return nobody
        if not stat.S_ISDIR(about.st_mode):
            self.log.warning(
                "%r in the exchange is left out: it is %s", nobody["filename"], kind(about.st_mode)
            )
            return nobody
        name = record["username"]
        if not name or not fit(name) or name.startswith(".") or set(name) & set("*?[]\\"):
            self.log.warning("%r in the exchange is left out: no learner has this name", nobody["filename"])
            return nobody
        return {**record, "owner": account(about.st_uid), "sent": record["filename"].rsplit("+", 3)[2]}

    def _sort_by_timestamp(self, records: list[Record]) -> list[Record]:
        """The newest first; what others have put there in a learner's name does not stand in front of their own."""
        own = [record for record in records if record.get("owner") == record["username"]]
        if self.check_owner and own:
            for record in records:
                if record not in own:
                    self.log.warning(
                        "%s is left out: it is owned by %s, and %s has submitted something as well",
                        record["filename"], record["owner"], record["username"],
                    )  # fmt: skip
            records = own
        return super()._sort_by_timestamp(records)

    def copy_files(self) -> None:
        """Copy each submission that is new; what goes wrong with one is logged and disturbs no other."""
        unit, course = self.coursedir.assignment_id, self.coursedir.course_id
        if not self.src_records:
            self.log.warning("No submissions of '%s' for course '%s' to collect", unit, course)
            return
        self.log.info(
            "Processing %d submissions of '%s' for course '%s'", len(self.src_records), unit, course
        )
        for record in self.src_records:
            try:
                self._collect(record)
            except Exception as error:
                self.log.error("The submission of %s is not collected: %s", record["username"], error)

    def _collect(self, record: Record) -> None:
        student, unit = record["username"], self.coursedir.assignment_id
        source = Path(self.inbound_path, record["filename"])
        target = Path(self.coursedir.format_path(self.coursedir.submitted_directory, student, unit))
        if self.check_owner and record["owner"] != student:
            self.log.warning(
                "%s claims to be submitted by %s but is owned by %s; cheating attempt?\n"
                "you may disable this warning by unsetting the option CollectApp.check_owner",
                source, student, record["owner"],
            )  # fmt: skip
        if target.is_dir():
            sent, here = record["timestamp"], self._collected(target)
            newer = self.update and (here is None or sent > here)
            if not newer and not (self.before_duedate and here != sent):
                told = "No newer submission" if self.update else "Submission already exists, use --update"
                self.log.info("%s: %s %s", told, student, unit)
                return
        self.log.info("%s submission: %s %s", "Updating" if target.is_dir() else "Collecting", student, unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{target.name}.{os.getpid()}")  # what is there stays until this is whole
        try:
            copy = Copy(
                file_bytes=1000 * self.coursedir.max_file_size,
                all_bytes=1000 * self.coursedir.max_dir_size,
                entries=self.max_entries,
                depth=self.max_depth,
                ignore=tuple(self.coursedir.ignore),
                include=tuple(self.coursedir.include),
                shared=self.coursedir.groupshared,
            )
            try:
                copy.folder(source, half)
            finally:
                for line in told_of(copy.left_out):
                    self.log.warning("%s: %s", student, line)
            vouch(half, record["sent"])
            if target.is_dir():
                shutil.rmtree(target)
            half.rename(target)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _collected(self, folder: Path) -> datetime | None:
        """When what lies there was submitted, where that can be read."""
        try:
            found: datetime | None = self.coursedir.get_existing_timestamp(str(folder))
        except Exception:
            return None
        return found


def vouch(folder: Path, sent: str) -> None:
    """Write what nbgrader takes for granted: a bad timestamp ends the formgrader's list, no secret all feedback."""
    _plain(folder / "timestamp.txt").write_text(sent)
    secret = _plain(folder / "submission_secret.txt")
    try:
        known = secret.read_bytes()[:1000].decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if not known:
        secret.write_text(secrets.token_urlsafe())


def _plain(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    return path
