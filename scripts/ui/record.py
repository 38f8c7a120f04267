"""Records commands in a terminal as an animated SVG: what the program wrote, at the pace at which it wrote it.

    record.py OUT.svg COLUMNS ROWS < commands

A line of the commands is typed and run by `sh`; one that begins with `#` is only shown. Python's own library is enough:
the programs that make such recordings want npm or Rust, or their server.
"""
import codecs
import fcntl
import html
import os
import pty
import re
import select
import struct
import sys
import termios
import time
import unicodedata

WIDE, HIGH = 7.8, 17.0
#: No pause is longer; no two pictures are nearer.
LONGEST, SHORTEST = 1.6, 0.12
TYPED, READ, END = 0.6, 2.2, 5.0
COLOURS = ["#2b303b", "#f0665a", "#50c878", "#e8a04e", "#6cabec", "#c792ea", "#3cc8dc", "#d8dad8",
           "#7c8388", "#f58177", "#7ee0a0", "#cfc36a", "#7db7f2", "#d7aefb", "#7fe3f0", "#ffffff"]


def colour(number):
    if number < 16:
        return COLOURS[number]
    if number > 231:
        return "#{0:02x}{0:02x}{0:02x}".format(8 + 10 * (number - 232))
    parts = [(number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6]
    return "#" + "".join("%02x" % (part and 55 + 40 * part) for part in parts)


class Screen:
    """As much of a terminal as planexe uses: lines, colours, moves up and down, and what clears a line."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines = [[]]
        self.y = self.x = 0
        self.style = (None, False, False)
        self.rest = ""

    def feed(self, text):
        text, self.rest = self.rest + text, ""
        for part in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b$|\x1b\[[0-9;?]*$|\x1b.|[^\x1b]", text):
            whole = part.group()
            if part.group(2):
                self.control(part.group(1), part.group(2))
            elif whole.startswith("\x1b") and part.end() == len(text):
                self.rest = whole
            elif not whole.startswith("\x1b"):
                self.put(whole)

    def control(self, given, kind):
        numbers = [int(number or 0) for number in given.split(";")] if not given.startswith("?") else []
        one = max(1, numbers[0]) if numbers else 1
        line = self.lines[self.y]
        if kind == "A":
            self.y = max(0, self.y - one)
        elif kind == "B":
            self.down(one)
        elif kind == "C":
            self.x += one
        elif kind == "D":
            self.x = max(0, self.x - one)
        elif kind == "G":
            self.x = one - 1
        elif kind == "K":
            self.lines[self.y] = [] if numbers[:1] == [2] else line[: self.x]
        elif kind == "J":
            self.lines[self.y] = line[: self.x]
            del self.lines[self.y + 1 :]
        elif kind == "m":
            self.paint(numbers)

    def paint(self, numbers):
        paint, bold, dim = self.style
        numbers = list(numbers)
        while numbers:
            n = numbers.pop(0)
            if n == 0:
                paint, bold, dim = None, False, False
            elif n == 1:
                bold = True
            elif n == 2:
                dim = True
            elif n == 22:
                bold = dim = False
            elif n == 39:
                paint = None
            elif 30 <= n <= 37 or 90 <= n <= 97:
                paint = colour(n - 30 if n < 90 else n - 82)
            elif n == 38 and numbers[:1] == [5]:
                paint = colour(numbers[1])
                del numbers[:2]
            elif n == 38 and numbers[:1] == [2]:
                paint = "#%02x%02x%02x" % tuple(numbers[1:4])
                del numbers[:4]
        self.style = (paint, bold, dim)

    def down(self, by):
        self.y += by
        while len(self.lines) <= self.y:
            self.lines.append([])

    def put(self, char):
        if char == "\r":
            self.x = 0
        elif char == "\n":
            self.down(1)
        elif char >= " ":
            if self.x >= self.columns:
                self.x = 0
                self.down(1)
            line = self.lines[self.y]
            line.extend([(" ", (None, False, False))] * (self.x + 1 - len(line)))
            line[self.x] = (char, self.style)
            self.x += 2 if unicodedata.east_asian_width(char) in "WF" else 1

    def shown(self):
        """The lines in view, each as runs of one style: (column, text, style)."""
        found = []
        for line in self.lines[-self.rows :]:
            runs = []
            for at, (char, style) in enumerate(line):
                if runs and runs[-1][2] == style:
                    runs[-1][1] += char
                else:
                    runs.append([at, char, style])
            kept = []
            for at, text, style in runs:
                start = len(text) - len(text.lstrip())
                if text.strip():
                    kept.append((at + start, text.strip(), style))
            found.append(tuple(kept))
        return tuple(found)


def run(command, screen, frames, clock):
    """Runs a command in a terminal of its own; notes the screen as it changes. The time it took, as shown."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", screen.rows, screen.columns, 0, 0))
        os.execvp("sh", ["sh", "-c", command])
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = time.monotonic()
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        if ready:
            try:
                read = os.read(terminal, 65536)
            except OSError:
                read = b""
            if not read:
                break
            screen.feed(decoder.decode(read))
        now = time.monotonic()
        if now - last >= SHORTEST and screen.shown() != frames[-1][1]:
            clock += min(LONGEST, now - last)
            frames.append((clock, screen.shown()))
            last = now
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit("record.py: `%s` ended with status %d" % (command, os.waitstatus_to_exitcode(status)))
    frames.append((clock + SHORTEST, screen.shown()))
    return clock + SHORTEST + READ


def svg(frames, length, columns, rows):
    width, height = columns * WIDE + 24, rows * HIGH + 46
    symbols, names, film, keys = [], {}, [], []
    for number, (at, lines) in enumerate(frames):
        keys.append("%.3f%%{transform:translateY(%dpx)}" % (100 * at / length, -number * height))
        for row, line in enumerate(lines):
            if not line:
                continue
            if line not in names:
                names[line] = "l%d" % len(names)
                runs = []
                for column, text, (paint, bold, dim) in line:
                    more = "".join([' fill="%s"' % paint if paint else "", ' class="b"' if bold else "", ' opacity=".65"' if dim else ""])
                    runs.append('<text x="%.1f" textLength="%.1f"%s>%s</text>' % (12 + column * WIDE, len(text) * WIDE, more, html.escape(text)))
                symbols.append('<g id="%s">%s</g>' % (names[line], "".join(runs)))
            film.append('<use href="#%s" y="%d"/>' % (names[line], number * height + 44 + row * HIGH))
    last = -(len(frames) - 1) * height
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="planexe in a terminal">' % (width, height, width, height),
        "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}.b{font-weight:700}",
        ".film{animation:film %.2fs steps(1,end) infinite}@media (prefers-reduced-motion:reduce){.film{animation:none;transform:translateY(%dpx)}}" % (length, last),
        "@keyframes film{%s100%%{transform:translateY(%dpx)}}</style>" % ("".join(keys), last),
        '<rect width="100%" height="100%" rx="8" fill="#16191c"/><circle cx="18" cy="15" r="5" fill="#f0665a"/><circle cx="35" cy="15" r="5" fill="#e8a04e"/><circle cx="52" cy="15" r="5" fill="#50c878"/>',
        '<defs>%s</defs>' % "\n".join(symbols),
        '<svg width="%d" height="%d"><g class="film" fill="#d8dad8">%s</g></svg>' % (width, height, "\n".join(film)),
        "</svg>", ""])


def main():
    out, columns, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    screen, clock = Screen(columns, rows), 0.4
    frames = [(0.0, ())]
    for command in sys.stdin.read().splitlines():
        note = command.startswith("#")
        screen.style = (COLOURS[8] if note else COLOURS[10], False, False)
        if note and len(screen.lines) > 1:
            screen.feed("\r\n")
        screen.feed("" if note else "$ ")
        screen.style = (COLOURS[8] if note else COLOURS[15], not note, False)
        for word in re.findall(r"\S+\s*", command):
            screen.feed(word)
            frames.append((clock, screen.shown()))
            clock += SHORTEST if note else 0.18
        screen.style = (None, False, False)
        screen.feed("\r\n")
        clock += TYPED
        if not note:
            clock = run(command, screen, frames, clock)
    with open(out, "w", encoding="utf-8") as file:
        file.write(svg(frames, clock + END, columns, rows))


main()
