r"""LaTeX mathematics as MathML, for pages that are read with the network cut.

Every browser draws MathML by itself, so a page needs no script and no server. The converter knows the LaTeX that
chapters use, spaces atoms by TeX's rules (The TeXbook, chapter 18) instead of the browser's, and refuses a command it
does not know rather than drawing something else. (The library latex2mathml, at 3.81, gives browsers plain letters for
blackboard and script ones, one line for aligned equations, and \arg as it stands.)

    >>> convert(r"\log p(x)")                                     # doctest: +ELLIPSIS
    '<math><semantics><mrow><mo ...>log</mo>...
"""

import re
from html import escape

from course_utils.commands.pages import symbols

THIN, MEDIUM, THICK = "0.1667em", "0.2222em", "0.2778em"
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_TAG = re.compile(r"\\tag\*?\s*\{([^{}]*)\}")
_SPACES = {
    "\\,": "0.1667em",
    "\\thinspace": "0.1667em",
    "\\:": "0.2222em",
    "\\>": "0.2222em",
    "\\;": "0.2778em",
    "\\ ": "0.25em",
    "~": "0.25em",
    "\\quad": "1em",
    "\\qquad": "2em",
    "\\enspace": "0.5em",
    "\\!": "",
}
_SIZES = {"big": "1.2em", "Big": "1.8em", "bigg": "2.4em", "Bigg": "3em"}
_STYLES = {
    "\\displaystyle": 'displaystyle="true" scriptlevel="0"',
    "\\textstyle": 'displaystyle="false" scriptlevel="0"',
    "\\scriptstyle": 'displaystyle="false" scriptlevel="1"',
}
_BOXES = {
    "matrix": ("", ""),
    "pmatrix": ("(", ")"),
    "bmatrix": ("[", "]"),
    "vmatrix": ("|", "|"),
    "Vmatrix": ("‖", "‖"),
    "cases": ("{", ""),
    "array": ("", ""),
    "smallmatrix": ("", ""),
}
_ALIGNED = {"aligned", "align", "align*", "split", "alignedat", "eqnarray", "eqnarray*"}
_CENTRED = {"gather", "gather*", "gathered"}
_PLAIN = {"equation", "equation*", "displaymath", "math"}


class MathError(ValueError):
    """A formula that cannot be converted. The message says what is not understood."""


class Atom:
    """A piece of MathML with TeX's class, which decides the space around it."""

    def __init__(self, xml, kind="ord", limits=False):
        self.xml, self.kind, self.limits = xml, kind, limits


def equation(tex):
    """A displayed formula: (MathML, its tag or None). Tags inside the rows of an alignment stay in their rows."""
    rows = re.search(r"\\begin\{(?:align|gather|eqnarray)\*?\}", tex)
    tags = _TAG.findall(tex)
    if tags and not rows:
        if len(tags) > 1:
            raise MathError(f"two tags in one formula: {', '.join(tags)}; use an align environment")
        return convert(_TAG.sub("", tex), display=True), tags[0]
    return convert(tex, display=True), None


def convert(tex, display=False):
    """One formula, without its dollars, as a `<math>` element."""
    parser = _Parser(tex)
    body = parser.row(parser.atoms(end=None))
    mode = ' display="block"' if display else ""
    note = f'<annotation encoding="application/x-tex">{escape(tex.strip(), quote=False)}</annotation>'
    return f"<math{mode}><semantics>{body}{note}</semantics></math>"


class _Parser:
    def __init__(self, tex):
        self.tex = tex
        self.tokens = _TOKEN.findall(re.sub(r"(?<!\\)%[^\n]*", "", tex))
        self.place, self.font, self.script = 0, None, 0

    # tokens
    def fail(self, message):
        raise MathError(f"{message} in the formula {self.tex.strip()!r}")

    def skip(self):
        while self.place < len(self.tokens) and self.tokens[self.place].isspace():
            self.place += 1

    def peek(self):
        self.skip()
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self):
        token = self.peek()
        if token is None:
            self.fail("something is missing at the end")
        self.place += 1
        return token

    def raw(self):
        """The text of a braced group, braces inside it kept."""
        if self.take() != "{":
            self.fail("expected a group in braces")
        depth, start = 1, self.place
        while depth:
            if self.place >= len(self.tokens):
                self.fail("a brace is not closed")
            depth += {"{": 1, "}": -1}.get(self.tokens[self.place], 0)
            self.place += 1
        return "".join(self.tokens[start : self.place - 1])

    def option(self):
        """The text of an optional argument in square brackets, or None."""
        if self.peek() != "[":
            return None
        start = self.place + 1
        while self.take() != "]":
            pass
        return "".join(self.tokens[start : self.place - 1])

    # rows of atoms
    def atoms(self, end):
        """Atoms up to a token in `end`, which is left there; `end=None` means the end of the formula."""
        found = []
        while True:
            token = self.peek()
            if token is None:
                if end is not None:
                    self.fail(f"expected {' or '.join(sorted(end))}")
                return found
            if end is not None and token in end:
                return found
            if token in _STYLES:
                self.take()
                found.append(Atom(f"<mstyle {_STYLES[token]}>{self.row(self.atoms(end))}</mstyle>"))
            else:
                atom = self.scripted()
                if atom is not None:
                    found.append(atom)

    def row(self, atoms, before=None):
        """Atoms as one `<mrow>`, spaced by their classes. `before` is the class of what stands left of the row."""
        parts, last = [], before
        for i, atom in enumerate(atoms):
            kind = atom.kind
            following = next((a.kind for a in atoms[i + 1 :] if a.kind != "space"), None)
            if kind == "bin" and (
                last in (None, "bin", "op", "rel", "open", "punct") or following in (None, "rel", "close", "punct")
            ):
                kind = "ord"  # a sign, not an operation
            xml = atom.xml
            if "@" in xml:
                space = {"rel": THICK, "bin": MEDIUM}.get(kind, "0") if not self.script else "0"
                left, right = ("0" if kind == beside == "rel" else space for beside in (last, following))  # = and :
                xml = xml.replace("@", f'lspace="{left}" rspace="{right}"', 1)
            if (
                (kind == "op" and last in ("ord", "close", "op", "inner", "punct"))
                or (last == "op" and kind in ("ord", "op", "inner"))
                or (
                    not self.script
                    and (
                        (last == "punct")
                        or (kind == "inner" and last in ("ord", "close", "inner"))
                        or (last == "inner" and kind in ("ord", "open", "punct"))
                    )
                )
            ):
                parts.append(f'<mspace width="{THIN}"/>')
            parts.append(xml)
            if kind != "space":
                last = kind
        return parts[0] if len(parts) == 1 and parts[0].startswith("<m") else f"<mrow>{''.join(parts)}</mrow>"

    def argument(self):
        """One argument of a command: a group or a single atom, as MathML."""
        if self.peek() == "{":
            return self.group()
        if len(self.peek() or "") > 1 and self.peek()[0].isdigit():  # \\tfrac12 is one half: an argument is one digit
            self.tokens[self.place : self.place + 1] = list(self.peek())
        atom = self.atom()
        return self.row([atom] if atom else [])

    def group(self):
        self.take()
        atoms = self.atoms({"}"})
        self.take()
        return self.row(atoms)

    def scripts(self):
        self.script += 1
        inner = self.argument()
        self.script -= 1
        return inner

    def scripted(self):
        """An atom with its subscript, superscript and primes."""
        base = Atom("<mrow></mrow>") if self.peek() in ("_", "^", "'") else self.atom()
        if base is None:
            return None
        below = above = None
        primes, limits = 0, base.limits
        while self.peek() in ("_", "^", "'", "\\limits", "\\nolimits"):
            token = self.take()
            if token == "'":
                primes += 1
            elif token == "_":
                below = self.scripts()
            elif token == "^":
                above = self.scripts()
            else:
                limits = "always" if token == "\\limits" else False
        if primes:
            # a prime is drawn raised already: back to full size and down to the line it stands on
            mark = (
                f'<mpadded voffset="-0.35em" height="0.4em"><mstyle scriptlevel="{self.script}">'
                f'<mo lspace="0" rspace="0">{symbols.PRIMES[min(primes, 4)]}</mo></mstyle></mpadded>'
            )
            above = mark if above is None else f"<mrow>{mark}{above}</mrow>"
        if below is None and above is None:
            return base
        core = base.xml.replace("@", 'lspace="0" rspace="0"', 1)
        if "minsize" in core:  # beside a script a fence would stretch with the row, and lose the size it was given
            core = f"<mrow>{core}<mi></mi></mrow>"
        if limits == "always":
            core = core.replace('movablelimits="true"', 'movablelimits="false"')
        name = ("munder", "mover", "munderover") if limits else ("msub", "msup", "msubsup")
        tag = name[2] if below and above else name[0] if below else name[1]
        return Atom(f"<{tag}>{core}{below or ''}{above or ''}</{tag}>", base.kind if base.kind != "bin" else "ord")

    # atoms
    def atom(self):
        token = self.take()
        if token == "{":
            self.place -= 1
            return Atom(self.group())
        if token in ("}", "&", "\\\\"):
            self.fail(f"unexpected {token}")
        if token[0].isdigit():
            digits = "".join(symbols.styled(c, self.font) for c in token) if self.font else token
            return Atom(f"<mn>{digits}</mn>")
        if token.isalpha():
            return Atom(self.identifier(token))
        if token in _SPACES:
            return Atom(f'<mspace width="{_SPACES[token]}"/>', "space") if _SPACES[token] else None
        if token in symbols.OPERATORS:
            return self.operator(*symbols.OPERATORS[token])
        if token.startswith("\\"):
            return self.command(token[1:])
        return Atom(f"<mi>{escape(token)}</mi>")

    def identifier(self, letter):
        shown = symbols.styled(letter, self.font)
        upright = self.font == "rm" or (shown == letter and letter in symbols.UPRIGHT)
        return f'<mi mathvariant="normal">{shown}</mi>' if upright else f"<mi>{shown}</mi>"

    def operator(self, character, kind):
        if kind == "ident":
            return Atom(self.identifier(character))
        if kind == "big":
            movable = ' movablelimits="true"' if character not in "∫∬∮" else ""
            return Atom(f'<mo largeop="true" lspace="0" rspace="0"{movable}>{character}</mo>', "op", bool(movable))
        if kind in ("open", "close", "fence"):
            return Atom(
                f'<mo stretchy="false" lspace="0" rspace="0">{escape(character)}</mo>',
                "ord" if kind == "fence" else kind,
            )
        if kind == "punct":
            return Atom(f'<mo separator="true" lspace="0" rspace="0">{character}</mo>', "punct")
        return Atom(f'<mo stretchy="false" @>{escape(character)}</mo>', kind)

    def function(self, name, limits):
        movable = ' movablelimits="true"' if limits else ""
        return Atom(f'<mo lspace="0" rspace="0" form="prefix"{movable}>{escape(name)}</mo>', "op", limits)

    def delimiter(self):
        token = self.take()
        if token == ".":
            return ""
        character = symbols.DELIMITERS.get(token)
        if character is None:
            self.fail(f"{token} is no delimiter")
        return character

    def fence(self, character, form, size=""):
        if not character:
            return ""
        return (
            f'<mo stretchy="true" symmetric="true" form="{form}" fence="true" lspace="0" rspace="0"{size}>'
            f"{escape(character)}</mo>"
        )

    def command(self, name):
        if name in symbols.FUNCTIONS:
            return self.function(*symbols.FUNCTIONS[name])
        if name in symbols.ACCENTS:
            character, stretchy, under = symbols.ACCENTS[name]
            body, tag = self.argument(), "munder" if under else "mover"
            mark = "accentunder" if under else "accent"
            return Atom(
                f'<{tag} {mark}="true">{body}<mo stretchy="{str(stretchy).lower()}" lspace="0" rspace="0">'
                f"{character}</mo></{tag}>"
            )
        if name in symbols.FONTS:
            before, self.font = self.font, symbols.FONTS[name]
            words = name in ("mathrm", "mathsf", "mathtt", "mathbf", "mathit") and self.word()
            body = words or self.argument()
            self.font = before
            return Atom(body)
        if name in ("text", "textrm", "textbf", "textit", "textsf", "texttt", "mbox"):
            return self.words(name)
        if name.rstrip("lrm") in _SIZES and name not in ("bigl", "Bigl") or name in ("bigl", "Bigl"):
            return self.sized(name)
        handler = getattr(self, "do_" + name, None)
        if handler is None:
            self.fail(f"the command \\{name} is not known (see course_utils/commands/pages/symbols.py)")
        return handler()

    def word(self):
        """A braced group of plain letters and digits as one identifier, or None."""
        if self.peek() != "{":
            return None
        start = self.place
        text = self.raw()
        if not re.fullmatch(r"[A-Za-z0-9 -]+", text) or len(text) == 1:
            self.place = start
            return None
        font = "rm" if self.font == "rm" else self.font
        shown = text if font == "rm" else "".join(symbols.styled(c, font) for c in text)
        return f"<mi>{shown}</mi>"

    def words(self, name):
        """Text, in which $…$ is mathematics again."""
        style = {"textbf": "font-weight:bold", "textit": "font-style:italic", "texttt": "font-family:monospace"}.get(
            name
        )
        parts = []
        for i, part in enumerate(re.split(r"(?<!\\)\$", self.raw())):
            if i % 2:
                inner = _Parser(part)
                parts.append(inner.row(inner.atoms(None)))
            elif part:
                text = re.sub(r"\\([ %$&#_{}])", r"\1", part).replace("~", " ").replace("\\,", " ")
                edges = re.sub(r"^ | $", "\N{NO-BREAK SPACE}", text)
                parts.append(
                    f"<mtext{f' style={chr(34)}{style}{chr(34)}' if style else ''}>{escape(edges, quote=False)}</mtext>"
                )
        return Atom(f"<mrow>{''.join(parts)}</mrow>")

    def sized(self, name):
        """\\big and its sisters: a delimiter of a given height."""
        size = name if name in _SIZES else name[:-1]
        side = name[len(size) :]
        character = self.delimiter()
        kind = {"l": "open", "r": "close", "m": "rel"}.get(side) or (
            "open" if character in "([{⟨⌊⌈" else "close" if character in ")]}⟩⌋⌉" else "ord"
        )
        height = f' minsize="{_SIZES[size]}" maxsize="{_SIZES[size]}"'
        form = {"open": "prefix", "close": "postfix"}.get(kind, "infix")
        return Atom(self.fence(character, form, height), kind)

    def do_left(self):
        left = self.delimiter()
        parts = [self.fence(left, "prefix")]
        while True:
            parts.append(self.row(self.atoms({"\\right", "\\middle"}), before="open"))
            if self.take() == "\\right":
                break
            parts.append(self.fence(self.delimiter(), "infix"))
        parts.append(self.fence(self.delimiter(), "postfix"))
        return Atom(f"<mrow>{''.join(parts)}</mrow>", "inner")

    def fraction(self, style="", line=""):
        up, down = self.argument(), self.argument()
        body = f"<mfrac{line}>{up}{down}</mfrac>"
        return Atom(f"<mstyle {style}>{body}</mstyle>" if style else body, "inner" if not line else "ord")

    def do_frac(self):
        return self.fraction()

    def do_dfrac(self):
        return self.fraction(_STYLES["\\displaystyle"])

    def do_tfrac(self):
        return self.fraction(_STYLES["\\textstyle"])

    def do_binom(self):
        inner = self.fraction(line=' linethickness="0"')
        return Atom(f"<mrow>{self.fence('(', 'prefix')}{inner.xml}{self.fence(')', 'postfix')}</mrow>")

    def do_sqrt(self):
        root = self.option()
        body = self.argument()
        if root is None:
            return Atom(f"<msqrt>{body}</msqrt>")
        inner = _Parser(root)
        return Atom(f"<mroot>{body}{inner.row(inner.atoms(None))}</mroot>")

    def do_operatorname(self):
        starred = self.peek() == "*" and self.take()
        text = re.sub(r"\\[,;: ]|~", "\N{THIN SPACE}", self.raw())
        if not re.fullmatch(r"[\w \N{THIN SPACE}.-]+", text):
            self.fail(f"\\operatorname takes a plain name, not {text!r}")
        return self.function(text, bool(starred))

    def stacked(self, above):
        mark, base = self.scripts(), self.argument()
        tag = "mover" if above else "munder"
        return Atom(f"<{tag}>{base.replace('@', '', 1)}{mark}</{tag}>", "rel" if "<mo" in base[:4] else "ord")

    def do_overset(self):
        return self.stacked(True)

    do_stackrel = do_overset

    def do_underset(self):
        return self.stacked(False)

    def brace(self, character, tag):
        body = self.argument()
        accent = "accentunder" if tag == "munder" else "accent"
        inner = f'<{tag} {accent}="true">{body}<mo stretchy="true" lspace="0" rspace="0">{character}</mo></{tag}>'
        return Atom(inner, "op", limits="always")

    def do_underbrace(self):
        return self.brace("⏟", "munder")

    def do_overbrace(self):
        return self.brace("⏞", "mover")

    def do_xrightarrow(self):
        self.option()
        return Atom(
            f'<mover><mo stretchy="true" lspace="{THICK}" rspace="{THICK}">→</mo>{self.scripts()}</mover>', "rel"
        )

    def do_substack(self):
        self.take()
        rows = self.cells("}")
        return Atom(self.table(rows, ["c"]))

    def do_phantom(self):
        return Atom(f"<mphantom>{self.argument()}</mphantom>")

    def do_boxed(self):
        return Atom(f'<mrow style="border:1px solid;padding:0.25em">{self.argument()}</mrow>')

    def cancelled(self, *corners):
        """Struck through, from one corner to the other; MathML in browsers has no element for it."""
        edge = "transparent calc(50% - 0.04em),currentColor calc(50% - 0.04em) calc(50% + 0.04em),transparent 0"
        line = ",".join(f"linear-gradient(to {corner},{edge})" for corner in corners)
        return Atom(f'<mrow style="background:{line}">{self.argument()}</mrow>')

    def do_cancel(self):
        return self.cancelled("bottom right")

    def do_bcancel(self):
        return self.cancelled("top right")

    def do_xcancel(self):
        return self.cancelled("bottom right", "top right")

    def do_pmod(self):
        body = self.argument()
        inner = f'<mo lspace="0" rspace="0">mod</mo><mspace width="0.3333em"/>{body}'
        fences = [f'<mo stretchy="false" lspace="0" rspace="0">{side}</mo>' for side in "()"]
        return Atom(f'<mrow><mspace width="0.4444em"/>{fences[0]}{inner}{fences[1]}</mrow>')

    def do_bmod(self):
        return Atom("<mo @>mod</mo>", "bin")

    def do_mathop(self):
        return Atom(self.argument(), "op", limits=True)

    def do_mathbin(self):
        return Atom(self.argument(), "ord")

    def do_textcolor(self):
        colour = self.raw()
        if not re.fullmatch(r"#?[A-Za-z0-9]+", colour):
            self.fail(f"{colour!r} is no colour")
        return Atom(f'<mrow style="color:{colour}">{self.argument()}</mrow>')

    def do_color(self):
        colour = self.raw()
        if not re.fullmatch(r"#?[A-Za-z0-9]+", colour):
            self.fail(f"{colour!r} is no colour")
        rest = self.atoms({"}"} if self.inside() else None)
        return Atom(f'<mrow style="color:{colour}">{self.row(rest)}</mrow>')

    def inside(self):
        """Whether a closing brace is still to come for a group that is open here."""
        depth = 0
        for token in self.tokens[self.place :]:
            depth += {"{": 1, "}": -1}.get(token, 0)
            if depth < 0:
                return True
        return False

    def do_not(self):
        atom = self.atom()
        plain = re.sub(r"<[^>]*>", "", atom.xml)
        shown = symbols.NEGATED.get(plain)
        if shown is None:
            self.fail(f"\\not before {plain!r} is not known")
        return Atom(f"<mo @>{shown}</mo>", "rel")

    def do_hspace(self):
        width = self.raw().strip()
        if not re.fullmatch(r"-?[\d.]+(em|ex|pt|cm|mm)", width):
            self.fail(f"{width!r} is no width")
        return Atom(f'<mspace width="{width}"/>', "space")

    def do_label(self):
        self.raw()

    def do_nonumber(self):
        return None

    do_notag = do_nonumber

    # environments
    def do_begin(self):
        name = self.raw()
        if name in _PLAIN:
            body = Atom(self.row(self.atoms({"\\end"})))
        elif name in _ALIGNED:
            if name == "alignedat":
                self.raw()
            body = Atom(self.table(self.cells("\\end", aligned=True), ["r", "l"], 'displaystyle="true"'), "inner")
        elif name in _CENTRED:
            body = Atom(self.table(self.cells("\\end"), ["c"], 'displaystyle="true"'), "inner")
        elif name in _BOXES:
            columns = [c for c in self.raw() if c in "lcr"] if name == "array" else ["l"] if name == "cases" else ["c"]
            table = self.table(self.cells("\\end"), columns, 'class="spaced"')
            left, right = _BOXES[name]
            body = Atom(f"<mrow>{self.fence(left, 'prefix')}{table}{self.fence(right, 'postfix')}</mrow>", "inner")
        else:
            self.fail(f"the environment {name} is not known")
        if self.take() != "\\end" or self.raw() != name:
            self.fail(f"\\begin{{{name}}} is not closed by \\end{{{name}}}")
        return body

    def cells(self, end, aligned=False):
        """Rows of cells up to `end`; each row is (cells as MathML, tag or None)."""
        rows, row, tag = [], [], None
        while True:
            atoms = self.until_cell(end)
            tag = atoms[1] or tag
            row.append(self.row(atoms[0], before="ord" if aligned and len(row) % 2 else None))
            token = self.peek()
            if token == "&":
                self.take()
                continue
            if token == "\\\\":
                self.take()
                if self.peek() == "*":
                    self.take()
                if self.tokens[self.place : self.place + 1] == ["["]:
                    self.option()
            rows.append((row, tag))
            row, tag = [], None
            if self.peek() == end:
                if end == "}":
                    self.take()
                return rows
            if self.peek() is None:
                self.fail("an environment is not closed")

    def until_cell(self, end):
        found, tag = [], None
        while True:
            found += self.atoms({"&", "\\\\", "\\tag", end})
            if self.peek() != "\\tag":
                return found, tag
            self.take()
            tag = self.raw()

    def table(self, rows, columns, attributes=""):
        tagged = any(tag for _, tag in rows)
        lines = []
        for row, tag in rows:
            cells = [
                f'<mtd class="{columns[i % len(columns)]}"><mrow>{cell}</mrow></mtd>' for i, cell in enumerate(row)
            ]
            if tagged:
                cells.append(f'<mtd class="tag">{f"<mtext>({escape(tag)})</mtext>" if tag else ""}</mtd>')
            lines.append(f"<mtr>{''.join(cells)}</mtr>")
        return f"<mtable {attributes}>{''.join(lines)}</mtable>" if attributes else f"<mtable>{''.join(lines)}</mtable>"
