"""Tables in Markdown."""


def table(heading: list[str], rows: list[list[str]]) -> str:
    """Return a table whose first column is text and whose others are numbers, set to the right."""
    lines = [heading, ["---"] + ["---:"] * (len(heading) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
