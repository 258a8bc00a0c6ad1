"""The stack that ``inspect`` tells: what the compiler says, summed along calls."""

import pytest

from flatgrad.cli.stack import RUNTIME, deepest

GRAPH = r"""graph: { title: "x.c"
node: { title: "x.c:leaf" label: "leaf\nx.c:1:1\n40 bytes (static)" }
node: { title: "x.c:other" label: "other\nx.c:2:1\n24 bytes (static)" }
node: { title: "top" label: "top\nx.c:3:5\n100 bytes (static)" }
edge: { sourcename: "top" targetname: "x.c:leaf" label: "x.c:3:9" }
edge: { sourcename: "top" targetname: "x.c:other" label: "x.c:3:9" }
node: { title: "__aeabi_dmul" label: "__aeabi_dmul\n<built-in>" shape : ellipse }
edge: { sourcename: "x.c:leaf" targetname: "__aeabi_dmul" }
}
"""


def test_the_heaviest_way_counts():
    assert deepest(GRAPH) == 140 + RUNTIME
    assert (
        deepest(GRAPH + 'edge: { sourcename: "x.c:other" targetname: "x.c:leaf" }\n')
        == 164 + RUNTIME
    )
    assert deepest(GRAPH.replace('"x.c:leaf" targetname', '"x.c:unused" targetname')) == 140
    assert deepest("graph: { }") == 0


def test_recursion_has_no_bound():
    with pytest.raises(ValueError, match="calls itself"):
        deepest(GRAPH + 'edge: { sourcename: "x.c:leaf" targetname: "top" }\n')
