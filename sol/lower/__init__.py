"""From clusters to loop nests."""
