"""The course's data: real, found in installed packages or built by ``make data``, never copied into the repository.

One module a source: each has a loader that returns typed, seeded, documented data, and says where they come from.
"""
