"""Parses quality values, as headers such as Accept have them (RFC 9110, section 12.4.2). Pure."""


def quality(parameters: str) -> float:
    """Returns the `q` of an entry's parameters, such as `charset=utf-8; q=0.5`, from 0 to 1.

    1 if there is none, 0 if it is malformed.
    """
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
