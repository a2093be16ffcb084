"""What the user says, by family; `operations/table.py` lists them all."""
