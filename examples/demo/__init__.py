"""The demo: a tiny base model, two tasks that it learns, and the whole path from a manifest to an answer."""
