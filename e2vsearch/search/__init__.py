"""From a query to hits: resolve, candidates and rank, exact scores, hydrate."""
