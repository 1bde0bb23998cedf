"""The attacks, one module a group."""

TOOLS = """
import os, sys
try:
    INSIDE = os.readlink("/proc/self/ns/pid") != "«outer»"  # in a pid namespace of my own: nobody else is in reach
except OSError:
    INSIDE = False
def breach(*what):
    print("BREACH " + "«marker»", *what)
def attempt(function, *arguments):
    try:
        return function(*arguments)
    except BaseException as error:
        return error
def succeeds(what, function, *arguments):
    got = attempt(function, *arguments)
    if not isinstance(got, BaseException):
        breach(what, str(got)[:200])
    else:
        print("refused:", what, type(got).__name__)
"""
