"""What a compiled program does on one device: products and factorizations, loops included, and collectives."""

import collections
import math
import re

COLLECTIVES = ("all-to-all", "all-gather", "all-reduce", "collective-permute", "reduce-scatter")
INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
FACTORIZATION = 8  # operations of one of LAPACK's routines, in units of n³; the same everywhere


class CompiledWork:
    """The work of a compiled program, read from its HLO.

    Attributes:
      flops: of products and factorizations; a loop's body counts as often as it runs, where that is known,
        and of a conditional's branches the most expensive one.
      branches: the flops of the branches of each conditional.
      collectives: how many there are of each kind.
      entries: the largest number of entries that one of each kind returns.
      groups: the sizes of the groups of devices that exchange something.
      in_loops: how many collectives are in the bodies of loops.
    """

    def __init__(self, compiled):
        self.bodies = _computations(compiled.as_text())
        self.collectives, self.entries = collections.Counter(), collections.Counter()
        self.groups, self.branches, self.in_loops = set(), [], 0
        self.flops = self._flops("ENTRY", in_loop=False)

    def _flops(self, name, in_loop):
        total, shapes = 0, {}
        for line in self.bodies[name]:
            if (parts := INSTRUCTION.match(line)) is None:
                continue
            place, shape, op, rest = parts.groups()
            shapes[place] = shape
            operands = [shapes.get(x, "") for x in re.findall(r"%([\w.\-]+)", rest.split(")")[0])]
            if (kind := op.removesuffix("-start")) in COLLECTIVES:
                self._count(kind, shape, rest, in_loop)
            elif op == "dot":
                axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)[1].split(",")
                lengths = _lengths(operands[0])
                total += (
                    2 * math.prod(_lengths(shape)) * math.prod(lengths[int(a)] for a in axes if a)
                )
            elif op == "custom-call" and "lapack" in rest:
                total += FACTORIZATION * math.prod(n := _lengths(operands[0])) * min(n[-2:])
            elif op == "while":
                trips = re.search(r"known_trip_count[^0-9]*(\d+)", rest)
                body = self._flops(_called(rest, "body")[0], in_loop=True)
                total += (int(trips[1]) if trips else 1) * body
            elif op == "conditional":
                names = _called(rest, "branch_computations|true_computation|false_computation")
                costs = [self._flops(x, in_loop) for x in names]
                self.branches.append(costs)
                total += max(costs)
            elif op in ("fusion", "call"):
                total += sum(self._flops(x, in_loop) for x in _called(rest, "calls|to_apply"))
        return total

    def _count(self, kind, shape, rest, in_loop):
        self.collectives[kind] += 1
        found = sum(math.prod(_lengths(x)) for x in re.findall(r"\w+\[[\d,]*\]", shape))
        self.entries[kind] = max(self.entries[kind], found)
        self.in_loops += in_loop
        self.groups.add(_group_size(rest))


def _group_size(text):
    """The number of devices that exchange something, in the three ways in which XLA writes it."""
    if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(groups[1].split(","))
    if groups := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(groups[1])
    mesh, names = re.search(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}", text).groups()
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh))
    return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", names))


def _computations(text):
    bodies, lines = {}, None
    for line in text.splitlines():
        start = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{\s*$", line)
        if start:
            lines = bodies["ENTRY" if start[1] else start[2]] = []
        elif lines is not None:
            lines.append(line.strip())
    return bodies


def _lengths(shape):
    return [int(n) for n in re.match(r"\(?\w+\[([\d,]*)\]", shape)[1].split(",") if n]


def _called(text, attribute):
    found = re.findall(rf"\b(?:{attribute})=\{{?((?:%[\w.\-]+(?:, )?)+)", text)
    return [name for names in found for name in re.findall(r"[\w.\-]+", names)]
