"""A pytest plugin that says how much nbval really compared, and fails below a floor.

nbval is green on a notebook without outputs, or with every cell tagged away. Loaded by `make test` with -p.
"""

from collections import Counter

from cm3t.notebooks import is_compared

FLOOR = 5  # compared cells a notebook


class Floor:
    """Counts the cells that nbval collects, by notebook."""

    def __init__(self):
        self.cells, self.compared = Counter(), Counter()

    def pytest_collection_modifyitems(self, items):
        """Count each cell, and each whose stored output is held against a fresh one."""
        for item in items:
            if hasattr(item, "cell"):
                self.cells[item.path.name] += 1
                self.compared[item.path.name] += is_compared(item.cell)

    def below(self) -> list[str]:
        """What is wrong, a line a notebook."""
        few = {name: self.compared[name] for name in self.cells if self.compared[name] < FLOOR}
        return [f"{name}: {count} cells compared, at least {FLOOR} are needed" for name, count in few.items()]

    def pytest_terminal_summary(self, terminalreporter):
        """Print the counts."""
        total = sum(self.compared.values())
        terminalreporter.write_line(f"{total} cells compared, {sum(self.cells.values()) - total} ignored")
        for line in self.below():
            terminalreporter.write_line(line, red=True)

    def pytest_sessionfinish(self, session):
        """Fail a session that compared too little."""
        if self.below() and session.exitstatus == 0:
            session.exitstatus = 1


def pytest_configure(config):
    """Register the counter."""
    config.pluginmanager.register(Floor())
