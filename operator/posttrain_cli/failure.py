"""What ends a command before its time: one line for the person at the terminal, no traceback."""


class Failure(ValueError):
    """Something that the user can understand and change; its text is one sentence."""


def one_line(text: str) -> str:
    """The text on one line and without control characters: messages may quote other people's data."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
