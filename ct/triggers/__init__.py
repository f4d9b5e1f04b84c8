"""What starts runs: landings, claims and runs, in the ledger."""
