"""What pages are made of, from records and models: tables, figures, the claims ledger, exercises that check."""
