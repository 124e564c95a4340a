"""What the page looks like: Vuetify widgets over the names of `page_state`."""
