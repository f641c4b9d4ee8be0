"""What is wrong with rows: found here by pure functions, reported by the audit, acted on by prepare.

words.py, sketch.py      words of a text, their hashes, n-grams, MinHash signatures
near.py, templates.py    rows that are like others
boilerplate.py           phrases that many rows repeat; phrases.py names them
contamination.py         questions of one source in texts of another
languages.py             rows in another language than their source
furniture.py             what stands in a book's file and is not the book
signs.py                 what one row shows by itself: endings.py, loops.py, markup.py, personal.py, refusals.py
"""
