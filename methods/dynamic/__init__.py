"""Which weights each token uses: one method a file, whose core reads like its equation."""
