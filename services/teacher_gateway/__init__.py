"""teacher_gateway: pays the teacher within the budget and keeps every answer."""
