"""What the HTML page is made of: its data, its template, its style and its script."""
