// The bindings want to be linked with an object that says which world the module is to become. That is `world` in
// plugin.toml, so there is nothing to link.
void __component_type_object_force_link_plugin(void);
void __component_type_object_force_link_plugin(void) {}
