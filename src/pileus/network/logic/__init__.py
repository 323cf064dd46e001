"""Commands and queries that decide something; transactions start and end here."""
