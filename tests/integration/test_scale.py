"""docs/scale.md: every block runs on eight devices, and the table holds."""

import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scale.md"


def rows(text):
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) == 7 and row[1][:1].isdigit()}


def test_every_block_of_the_page_on_scale_runs_and_its_table_holds(on_devices):
    script = pathlib.Path(__file__).with_name("scale_on_eight_devices.py")
    measured, told = rows(on_devices(script)), rows(PAGE.read_text())
    assert measured.keys() == told.keys()
    assert len(told) == 9
    for name, (*sizes, _, in_loop, _) in measured.items():
        assert sizes == told[name][:3], name
        # How many collectives there are outside of the loop depends on the version of XLA.
        assert (in_loop == "0") == (told[name][4] == "0") == ("without" not in name), name
