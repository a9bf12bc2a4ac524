SCRIPT = ""
def script() -> str:
    return SCRIPT
