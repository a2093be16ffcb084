"""One file a library, each the sole importer of its own; the table that names them is `arrayconv.backend.BACKENDS`."""
