"""Everything the course builds, written from scratch: one short module a topic.

A lesson imports from here, a later exercise builds on it, and every solution notebook is a copy of it
(``make sync``). Import from the modules: ``from scratch.attention import SelfAttention``.
"""

from scratch import backend  # sets what Keras is to compute with, before anything here imports it
