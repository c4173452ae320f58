"""Self-contained HTML and Markdown: pages, plots, templates, the model card.

Figures enter; text leaves.
"""
