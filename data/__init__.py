"""Files in, leak-free splits out: sources, readers, cleaning, duplicates, split; then token arrays, packing, loader.

Order of one `prepare` (data/pipeline.py), which is invariant 1 of the design:
  1. sources.py     the configuration's [[source]] entries become a list of files
  2. readers.py     each file becomes records (embedded.py: so does the interpreter's own standard library),
     columns.py     each record a row
  3. clean.py       per-row repairs and checks; exact duplicates
  4. duplicates.py  rows that belong together become groups
  5. split.py       groups and blocks of long documents become train, val, test
  6. clean.py       steps that are fitted on train; what they made equal to train leaves val and test
A row that falls out on the way goes to quarantine with its reason. Knows no tokenizer, model or training.
"""
