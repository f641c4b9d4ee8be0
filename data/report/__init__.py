"""An audit as people read it: lines for a terminal and a page (summary.py), two audits side by side (comparison.py)."""
