"""Files in, leak-free splits out: sources, readers, cleaning, duplicates, split; then token arrays, packing, loader.

Order of one `prepare` (data/pipeline.py), which is invariant 1 of the design; gather.py streams 1 to 3 (engine.py,
facts.py) into store.py, which keeps rows on disk, and corpus.py knows where each goes:
  1. sources.py     the configuration's [[source]] entries become a list of files
  2. readers.py     each file (opening.py, decoding.py) becomes records (embedded.py: so does the interpreter's own
     columns.py     standard library; conversations.py: so do chats), each record a row (record_templates.py)
  3. clean.py       repairs and checks of one row, by name; what they do stands in steps.py and repairs.py
  4. duplicates.py  exact duplicates; rows that belong together become groups
  5. split.py       groups and blocks of long documents become train, val, test
  6. steps.py       what is fitted on train (fitting.py); what it made equal to train leaves val and test, as do blocks
     overlaps.py    of which another text of train holds a part
  7. writing.py     the folder: splits, quarantine, manifest
A row that falls out on the way goes to quarantine with its reason.

One `audit` (data/auditing.py) looks at the same rows and changes nothing: engine.py streams them, facts.py and
audit_rows.py look at them, store.py keeps them on disk, detect/ finds, conclusions.py and figures.py conclude, report/
tells.
Knows no tokenizer, model or training.
"""
