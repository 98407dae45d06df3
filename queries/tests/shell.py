"""Drives the interactive shell through a real pseudo-terminal and checks what it shows.

Usage: shell.py PGTRACE_SQL DATASET FOLDER
FOLDER is empty and takes all files that are made.
A terminal answers the cursor-position request (ESC [ 6 n) of a line editor; so does this script.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = float(os.environ.get("PATIENCE", "120"))  # seconds until a missing answer is a failure; nothing waits that long


class Terminal:
    def __init__(self, *argv, env, lines=24, columns=120):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execve(argv[0], argv, {**os.environ, "TERM": "xterm", **env})
        self.raw = ""
        self.asked = 0
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
        self.raw += text
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]", "", text)
        return True

    def type(self, text):
        os.write(self.fd, text.encode())

    def prompt(self):
        return self.wait("pgtrace> ")

    def ask(self, line, *answers):
        """Types a line, waits for each answer and for the next prompt."""
        self.type(line + "\r")
        for answer in answers:
            self.wait(answer)
        self.done()

    def done(self):
        """Waits until all that was typed is done: the editor shows its prompt at every key, that says nothing."""
        self.asked += 1
        self.type(f"\\echo 'done''{self.asked}'\r")  # the line itself has two quotes
        self.wait(f"done'{self.asked}")
        self.prompt()

    def interrupt(self):
        """What Ctrl-C does while no editor reads the terminal."""
        os.kill(self.pid, signal.SIGINT)

    def ends(self):
        until = time.monotonic() + PATIENCE
        while self.read(1):
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                sys.exit(f"did not end, shown was:\n{self.shown}")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Test:
    def __init__(self, program, dataset, folder):
        self.program, self.dataset, self.folder = program, dataset, folder
        self.history = folder + "/state/history"
        self.env = {
            "PGTRACE_HISTORY": self.history,
            "HOME": folder,
            "XDG_CONFIG_HOME": folder + "/config",
            "PGTRACE_PAGER": "",
            "NO_COLOR": "",
        }

    def shell(self, *options, lines=24, columns=120, **env):
        env = {**self.env, **env}
        shell = Terminal(self.program, self.dataset, *options, env=env, lines=lines, columns=columns)
        shell.wait("1 capture, 3 rows in refs, 7 lost")
        return shell

    def path(self, name):
        return f"{self.folder}/{name}"

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def end(self, shell, keys="\x04"):
        shell.type(keys)
        code = shell.ends()
        assert code == 0, f"{keys!r} must end with 0, not {code}"

    def statements(self):
        shell = self.shell("--max-rows", "5")
        shell.prompt()
        shell.ask("SELECT 41 + 1 AS answer;", "| 42 ")
        # A statement goes on until its semicolon.
        shell.type("SELECT 'one'\r")
        shell.wait("-> ")
        shell.ask("|| 'two' AS both;", "| onetwo |")
        shell.ask("SELECT * FROM generate_series(1, 100);", "cut after 5 rows")
        # Ctrl-C clears the line.
        shell.type("SELECT nonsense \x03")
        shell.prompt()
        shell.ask("SELECT 'clear' || 'ed' AS x;", "cleared")
        self.end(shell)
        kept = self.read("state/history")
        assert "41 + 1" in kept and "generate_series" in kept, kept

    def history_stays(self):
        """The next session finds all again, statements of several lines whole."""
        shell = self.shell()
        shell.prompt()
        shell.type("\x1b[A\x1b[A")  # arrow up, twice
        shell.wait("'ed' AS x;")
        shell.ask("", "cleared")
        shell.type("\x12")  # Ctrl-R
        shell.wait("(history: ")
        shell.type("two")
        shell.wait("AS both;")
        shell.type("\r")
        shell.ask("", "| onetwo |")
        self.end(shell, "\\q\r")

    def errors(self):
        shell = self.shell()
        shell.prompt()
        shell.type("SELECT seq\rFROM page_ifr;\r")
        shell.wait("table 'page_ifr' not found")
        shell.wait("2 | FROM page_ifr")
        marked = shell.wait("hint: did you mean page_irf?")
        assert marked.rstrip().endswith("|      ^^^^^^^^"), marked
        shell.prompt()
        shell.ask("SELECT pge FROM refs;", "no column pge", "^^^", "did you mean page?")
        shell.ask("SELECT cuont(*) FROM refs;", "no function cuont", "did you mean count?")
        shell.ask("SELEC 1;", "syntax error", "^^^^^", "did you mean SELECT?")
        # Colours where they are welcome only.
        assert "\x1b[1;31m" in shell.raw, "the mark is red"
        self.end(shell)
        shell = self.shell(NO_COLOR="1")
        shell.prompt()
        shell.ask("SELEC 1;", "did you mean SELECT?")
        assert "\x1b[1;31m" not in shell.raw, "NO_COLOR means none"
        self.end(shell)

    def commands(self):
        shell = self.shell()
        shell.prompt()
        shell.ask("\\d", "hot_files", "page_irf")
        shell.ask("\\d refs", "virtual time")
        shell.ask("\\d page_ifr", "did you mean page_irf?")
        shell.ask("\\views", "irf", "page_irf")
        shell.ask("\\views page_irf", "Columns:", "gap_mean", "Examples:", "SELECT")
        shell.ask("\\?", "\\watch")
        for wrong, word in [
            ("\\nonsense", "unknown command"),
            ("\\format xml", "unknown format"),
            ("\\watch soon", "soon"),
            ("\\i /no/such.sql", "No such file"),
            ("\\o /no/such/file.csv", "No such file"),
            ("\\unset nothing", "no variable nothing"),
            ("\\! exit 3", "exit status: 3"),
        ]:
            shell.ask(wrong, "error: ", word)
        shell.ask("\\set greeting it's")
        shell.ask("SELECT :'greeting' AS x;", "| it's |")
        shell.ask("SELECT :greting AS x;", "no variable greting", "did you mean :greeting?")
        shell.ask("\\set", "greeting = 'it's'")
        shell.ask("\\echo :greeting fine", "it's fine")
        shell.ask("\\x", "expanded display is on")
        shell.ask("SELECT 4 AS a, 5 AS b;", "-[ row 1 ]-", "a | 4", "b | 5")
        shell.ask("\\format csv")
        shell.ask("\\timing", "timing is on")
        shell.ask("SELECT 6 * 7 AS x, 5 AS y;", "42,5", "1 rows in ")
        script = self.write("two.sql", "\\echo from a script\nSELECT 3 * 3 AS nine;\nSELECT nope\n")
        shell.ask(f"\\i {script}", "from a script", "9", "two.sql, statement 3, line 3", "nope")
        script = self.write("loop.sql", f"\\i {self.path('loop.sql')}\n")
        shell.ask(f"\\i {script}", "does it run itself?")
        shell.ask("\\format parquet")
        shell.ask("SELECT 1 AS one;", "nothing for a terminal")
        self.end(shell)

    def output(self):
        shell = self.shell()
        shell.prompt()
        shell.ask(f"\\o {self.path('out.csv')}")
        shell.ask("SELECT 1 AS a;")
        assert self.read("out.csv") == "a\n1\n", self.read("out.csv")
        shell.ask("SELECT 2 AS b;")
        shell.ask("SELECT nope;", "nope")
        shell.ask("CREATE TABLE t AS SELECT 1 AS x;")
        assert self.read("out.csv") == "a\n1\nb\n2\n", self.read("out.csv")
        shell.ask(f"\\o {self.path('out.parquet')}")
        shell.ask("SELECT 1 AS a;")
        shell.ask("SELECT 2 AS a;", "holds a result already")
        shell.ask(f"\\o |tr a-z A-Z >{self.path('upper')}")
        shell.ask("SELECT 'loud' AS x;")
        shell.ask("\\o")
        assert "LOUD" in self.read("upper"), self.read("upper")
        shell.ask("\\o |head -1 >/dev/null")
        shell.ask("SELECT * FROM generate_series(1, 1000000);")
        shell.ask("\\o")
        shell.ask("SELECT 'here' || ' again' AS x;", "here again")
        assert not [n for n in os.listdir(self.folder) if n.startswith(".pgtrace-sql")]
        self.end(shell)

    def completion(self):
        shell = self.shell()
        shell.prompt()

        def completes(typed, whole, rest=""):
            shell.type(typed + "\t")
            shell.wait(whole)
            shell.type(rest + "\r")
            shell.done()

        completes("SELECT count(*) AS n FROM irf_his", "irf_histogram", ";")
        completes("SELECT r.capt", "SELECT r.capt", "\x03")
        completes("\\vie", "\\views")
        completes("\\d pro", "\\d processes")
        completes("\\format nd", "\\format ndjson")
        completes(f"\\i {self.folder}/tw", f"{self.folder}/two.sql", "\x03")
        shell.ask("\\set threshold 7")
        shell.ask("CREATE VIEW mine_alone AS SELECT 1 AS lonely;")
        completes("SELECT :thr", ":threshold", "AS x;")
        completes("SELECT * FROM mine_", "mine_alone", ";")
        # Columns of the relation behind an alias, although that comes later.
        shell.type("SELECT m.lo FROM mine_alone m;" + "\x1b[D" * len(" FROM mine_alone m;") + "\t")
        shell.wait("m.lonely")
        shell.type("\r")
        shell.done()
        self.end(shell)

    def cancel(self):
        """Ctrl-C stops the statement and leaves the shell; meanwhile there is progress to see."""
        shell = self.shell()
        shell.prompt()
        cross = "SELECT count(*) FROM refs a, generate_series(1, 1000000) b, generate_series(1, 1000000) c;"
        shell.type(cross + "\r")
        shell.wait("of 3 rows read, ")
        shell.wait("Ctrl-C stops it")
        begun = time.monotonic()
        shell.interrupt()
        shell.wait("error: interrupted")
        took = time.monotonic() - begun
        assert took < 10, f"stopping took {took} s"
        shell.ask("SELECT 'alive' || '!' AS x;", "alive!")
        self.end(shell)

    def watch(self):
        shell = self.shell()
        shell.prompt()
        shell.ask("\\watch", "nothing to watch yet")
        shell.ask("SELECT 6 * 7 AS x;", "42")
        shell.type("\\watch 0.2\r")
        for run in range(1, 4):
            shell.wait(f"run {run}, every 0.2 s")
            shell.wait("42")
        shell.interrupt()
        shell.done()
        assert "\x1b[2J" in shell.raw, "the screen is cleared"
        shell.ask("SELECT nope;", "nope")
        shell.ask("\\watch", "nope")  # what fails is not repeated
        self.end(shell)

    def rc(self):
        self.write(".pgtracerc", "-- mine\n\\set who me\n\\nonsense\nSELECT\n  nope;\n\\format csv\n")
        shell = self.shell()
        shell.wait(".pgtracerc, line 3: unknown command \\nonsense")
        shell.wait(".pgtracerc, line 5: no column nope")
        shell.prompt()
        shell.ask("SELECT :'who' || '!' AS x, 1 AS y;", "me!,1")
        self.end(shell)
        shell = self.shell("--no-rc")
        shell.prompt()
        shell.ask("SELECT :'who' AS x;", "no variable who")
        self.end(shell)
        other = self.write("other.rc", "\\echo other one\n")
        shell = self.shell(PGTRACERC=other)
        shell.wait("other one")
        shell.prompt()
        self.end(shell)
        shell = self.shell(PGTRACERC=self.path("none.rc"))
        shell.wait("none.rc: No such file")
        shell.prompt()
        self.end(shell)
        os.remove(self.path(".pgtracerc"))

    def paging(self):
        pager = f"cat >{self.path('paged')}; echo left the pager"
        shell = self.shell(lines=12, columns=60, PGTRACE_PAGER=pager)
        shell.prompt()
        shell.ask("SELECT * FROM generate_series(1, 3);", "| 3 ")  # fits
        assert not os.path.exists(self.path("paged"))
        shell.ask("SELECT * FROM generate_series(1, 2000);", "left the pager")
        rows = self.read("paged")
        assert "| 2000 " in rows and "| 1 " in rows, "all rows, and not a thousand"
        shell.ask("SELECT repeat('w', 100) AS wide;", "left the pager")
        assert "wwww" in self.read("paged")
        shell.ask("\\d refs", "left the pager")
        assert "virtual time" in self.read("paged")
        self.end(shell)
        # Who leaves early has seen enough: no error, and the query is stopped.
        shell = self.shell(lines=12, PGTRACE_PAGER="head -3")
        shell.prompt()
        shell.ask("SELECT * FROM generate_series(1, 1000000000000);", "| value")
        self.end(shell)
        shell = self.shell(lines=12, PGTRACE_PAGER="/no/such/pager")
        shell.prompt()
        shell.ask("\\?", "PGTRACE_PAGER names another")
        self.end(shell)

    def terminate(self):
        """SIGTERM ends a shell that waits at its prompt."""
        shell = self.shell()
        shell.prompt()
        shell.ask("SELECT 1 AS x;", "| 1 ")
        os.kill(shell.pid, signal.SIGTERM)
        assert shell.ends() == 0


def main():
    test = Test(*sys.argv[1:4])
    tests = [
        test.statements, test.history_stays, test.errors, test.commands, test.output, test.completion,
        test.cancel, test.watch, test.rc, test.paging, test.terminate,
    ]  # fmt: skip
    only = sys.argv[4:]
    for one in tests:
        if not only or one.__name__ in only:
            begun = time.monotonic()
            one()
            print(f"{one.__name__}: {time.monotonic() - begun:.1f} s", flush=True)


main()
