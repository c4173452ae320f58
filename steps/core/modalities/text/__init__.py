"""Text behind the seam: sentences and short documents, read by an encoder of transformers.

Cells of a table or .txt files enter; token numbers, findings and what reports and servers show leave.
"""
