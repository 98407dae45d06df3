"""Drives the interactive shell through a real pseudo-terminal and checks what it shows.

Usage: shell.py PGTRACE_SQL DATASET HISTORY
A terminal answers the cursor-position request (ESC [ 6 n) of a line editor; so does this script.
"""

import os
import pty
import re
import select
import signal
import sys
import time

PATIENCE = 120  # seconds until a missing answer is a failure; nothing waits that long otherwise


class Terminal:
    def __init__(self, *argv, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, {**os.environ, "TERM": "xterm", **env})
        self.shown = ""  # since the last wait

    def wait(self, text):
        """Reads until `text` is shown; forgets what came up to its end."""
        until = time.monotonic() + PATIENCE
        while text not in self.shown:
            if time.monotonic() > until:
                sys.exit(f"waited for {text!r}, shown was:\n{self.shown}")
            if not self.read(0.2):
                sys.exit(f"ended before {text!r} was shown:\n{self.shown}")
        before, self.shown = self.shown.split(text, 1)
        return before

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        for _ in range(data.count(b"\x1b[6n")):
            os.write(self.fd, b"\x1b[1;1R")
        text = data.decode(errors="replace")
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]", "", text)
        return True

    def type(self, text):
        os.write(self.fd, text.encode())

    def prompt(self):
        self.wait("pgtrace> ")

    def ends(self):
        while self.read(1):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def main():
    program, dataset, history = sys.argv[1:]
    env = {"PGTRACE_HISTORY": history}

    shell = Terminal(program, dataset, "--max-rows", "5", env=env)
    shell.wait("1 capture, 3 rows in refs, 7 lost")
    shell.prompt()

    shell.type("SELECT 41 + 1 AS answer;\r")
    shell.wait("| 42 ")
    shell.prompt()

    # A statement goes on until its semicolon.
    shell.type("SELECT 'one'\r")
    shell.wait("-> ")
    shell.type("|| 'two' AS both;\r")
    shell.wait("| onetwo |")
    shell.prompt()

    shell.type("SELECT * FROM page_ifr;\r")
    shell.wait("did you mean page_irf?")
    shell.prompt()

    shell.type("\\d\r")
    shell.wait("hot_files")
    shell.wait("page_irf")
    shell.prompt()
    shell.type("\\d refs\r")
    shell.wait("virtual time")
    shell.prompt()
    shell.type("\\nonsense\r")
    shell.wait("unknown command")
    shell.prompt()

    shell.type("SELECT * FROM generate_series(1, 100);\r")
    shell.wait("cut after 5 rows")
    shell.prompt()

    shell.type("\\format csv\r")
    shell.prompt()
    shell.type("\\timing\r")
    shell.wait("timing is on")
    shell.prompt()
    shell.type("SELECT 6 * 7 AS x, 5 AS y;\r")
    shell.wait("42,5")
    shell.wait("1 rows in ")
    shell.prompt()

    # Tab completes the only candidate.
    shell.type("SELECT count(*) AS n FROM irf_his\t")
    shell.wait("irf_histogram")
    shell.type(";\r")
    shell.wait("rows in ")
    shell.prompt()

    # Ctrl-C stops the statement and leaves the shell.
    shell.type("SELECT count(*) FROM generate_series(1, 1000000000000);\r")
    shell.wait("1000000000000);")
    time.sleep(0.5)
    os.kill(shell.pid, signal.SIGINT)
    shell.wait("interrupted")
    shell.prompt()
    shell.type("SELECT 'alive' || '!' AS x;\r")
    shell.wait("alive!")
    shell.prompt()

    shell.type("\x04")  # Ctrl-D
    assert shell.ends() == 0, "Ctrl-D must end with 0"
    kept = open(history).read()
    assert "41 + 1" in kept and "generate_series" in kept, kept

    # The next session finds it again: arrow up, twice.
    shell = Terminal(program, dataset, env=env)
    shell.prompt()
    shell.type("\x1b[A")
    shell.wait("alive")
    shell.type("\r")
    shell.wait("alive!")
    shell.prompt()
    shell.type("\\q\r")
    assert shell.ends() == 0, "\\q must end with 0"


main()
