"""Where the course meets nbgrader; the only package that imports it.

nbgrader stays in charge of release, exchange, gradebook, formgrader, late penalties and export. It is told in
``nbgrader_config.py`` to use, in place of its own steps: ``ClearSolutions`` and ``AddChecks`` on release;
``SubmissionExporter``, ``Grade`` and ``SaveVerdict`` on autograding; ``FeedbackExporter`` for feedback; ``Collect`` on
collecting; ``CsvExport`` for the export. So the command line, the formgrader's buttons and ``proctor grade`` give the
same scores through the same code.
"""

from __future__ import annotations

from nbgrader import preprocessors as stock
from traitlets.config import Config

from proctor.nbgrader.collect import Collect
from proctor.nbgrader.steps import (
    AddChecks,
    ClearSolutions,
    FeedbackExporter,
    Grade,
    SaveVerdict,
    SubmissionExporter,
)

__all__ = [
    "AddChecks",
    "ClearSolutions",
    "Collect",
    "FeedbackExporter",
    "Grade",
    "SaveVerdict",
    "SubmissionExporter",
    "configure",
]


def configure(config: Config) -> None:
    """What ``nbgrader_config.py`` asks for: the rooms of the house, and our steps in place of nbgrader's."""
    ours = "proctor.nbgrader."
    config.CourseDirectory.source_directory = "solutions"
    config.CourseDirectory.release_directory = "exercises"
    config.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", ".hints.json"]
    config.GenerateAssignment.preprocessors = [
        stock.IncludeHeaderFooter,
        stock.LockCells,
        ours + "ClearSolutions",
        stock.ClearOutput,
        stock.CheckCellMetadata,
        stock.ComputeChecksums,
        stock.SaveCells,
        stock.ClearHiddenTests,
        stock.ClearMarkScheme,
        stock.ComputeChecksums,
        stock.CheckCellMetadata,
        ours + "AddChecks",
    ]
    config.CourseDirectory.max_file_size = 20_000  # kB; as large as a notebook may be that is graded
    config.CourseDirectory.max_dir_size = 50_000
    config.ExchangeFactory.collect = ours + "Collect"
    config.Autograde.pre_convert_hook = ours + "folders.sweep"
    config.Autograde.exporter_class = ours + "SubmissionExporter"
    config.Autograde.sanitize_preprocessors = [stock.CheckCellMetadata]
    config.Autograde.autograde_preprocessors = [
        ours + "Grade",
        ours + "SaveVerdict",
        stock.AssignLatePenalties,
        stock.CheckCellMetadata,
    ]
    config.GenerateFeedback.exporter_class = ours + "FeedbackExporter"
    config.GenerateFeedback.preprocessors = []
    config.ExportApp.plugin_class = ours + "export.CsvExport"
